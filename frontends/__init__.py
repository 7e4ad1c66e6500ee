"""What people connect to: FTP now, later SFTP, the web and synced folders; and the command line."""
