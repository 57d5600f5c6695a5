"""The pages people read in a browser: dbt docs, Data Docs, and a front page over both.

Everything a page needs is inside it: no page loads anything from another host, and none needs
JavaScript but dbt's own. What Data Docs say is decided in `checks.data_docs`.
"""
