"""What stands around a request: times, inputs that are no files, jobs, pictures of results."""
