"""`pretune report`: one HTML file that says how a job was trained, and how well; from what lies in its storage."""
