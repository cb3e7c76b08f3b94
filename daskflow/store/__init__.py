"""What is on disk: paths, durable and create-only writes, records, artifacts, logs. Knows no flow."""
