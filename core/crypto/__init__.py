"""Tagged hashes, key derivations, AES-CTR and RSA: pure functions of bytes."""
