"""The web process: the pages of the portal. It is a caller of the core, and keeps nothing (S20).

For a page, write:

- `pages/NAME.py` with `ROUTES`, listed in `pages/__init__.py`;
- `templates/NAME*.html`, which begin with `{% extends "base.html" %}` and use `parts.html`;
- `locale/LANGUAGE/NAME.po` with the translations of the texts of both (`make texts` adds them);
- `tests/web/test_NAME.py` with `stepup_tests.web`.
"""
