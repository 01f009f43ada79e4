"""How people use thermolab: checked parameters, figures, tables, saved results, batch runs and the book."""

import importlib.util
import sys


class _Plain:
    """Hides a package from jsonschema while that is imported, and only then.

    nbformat brings jsonschema, which would compile a grammar of IRIs, for a second in every process, to check a format that no
    notebook has. It does without where there is none.
    """

    module, hidden = "jsonschema._format", "rfc3987_syntax"

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """The module as others find it, with a loader that hides the package; nothing for all other names."""
        if name != cls.module:
            return None
        sys.meta_path.remove(cls)
        spec = importlib.util.find_spec(name)
        if spec is not None and cls.hidden not in sys.modules:
            execute = spec.loader.exec_module

            def without(module):
                sys.modules[cls.hidden] = None
                try:
                    execute(module)
                finally:
                    del sys.modules[cls.hidden]

            spec.loader.exec_module = without
        return spec


if _Plain.module not in sys.modules:
    sys.meta_path.insert(0, _Plain)
