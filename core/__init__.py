"""The filestore: capabilities, encryption, erasure code, storage servers, nodes, directories."""
