"""What must hold beyond one file: completeness, and agreement between sources.

`suite` evaluates (Great Expectations, no Dagster), `asset_checks` makes Dagster checks of it,
`results` and `data_docs` keep what came out, and every other module is a family of suites. What a
partition may not be committed without is proven in `lake` and `sources`, and not asked here again.
"""
