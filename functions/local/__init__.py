"""The pipeline on one machine: other settings and other servers, the same handlers and the same job."""
