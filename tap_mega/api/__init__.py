"""The API: requests, what responses mean, and reading page by page."""
