"""Sessions in a storage: loading, saving, appending, forking, listing, archiving, expiring, deleting."""
