"""How people use thermolab: checked parameters, figures, tables, saved results, batch runs and the book."""

import sys

# nbformat brings jsonschema, and that would compile a grammar of IRIs at import, which takes a second in every process,
# to check a format that no notebook has. It does without where there is none.
sys.modules.setdefault("rfc3987_syntax", None)
