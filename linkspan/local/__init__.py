"""What `linkspan up` runs on one machine: a Prefect server and a worker of one's own, below one folder."""
