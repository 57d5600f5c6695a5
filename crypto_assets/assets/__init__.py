"""The assets: thin functions from a partition through source and lake, and onwards to dbt."""
