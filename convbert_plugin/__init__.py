"""ConvBERT for fairseq: all that it adds is registered where fairseq is imported too.

Either may come first. Alone, this package imports neither fairseq nor torch.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Optional

from convbert_plugin.formats.unsafe_loading import refuse_unsafe_loading

if TYPE_CHECKING:
    from convbert_plugin.models.convbert import ConvBertModel

__all__ = ["ConvBertModel"]

FAIRSEQ_MISSING = (
    "fairseq is missing: pip install --no-deps ve-fairseq==0.12.3 (or run "
    "examples/quickstart.sh, which sets everything up)"
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module("convbert_plugin.models.convbert"), name)
    except ModuleNotFoundError as error:
        if error.name != "fairseq":
            raise
        raise ModuleNotFoundError(FAIRSEQ_MISSING, name=error.name) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Registering:
    """Finds what the other finders find: fairseq and the parts of the plugin register at their end.

    A part that imports fairseq cannot register amid its own import, which it would need done.
    """

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """For ``sys.meta_path``."""
        if name != "fairseq" and not name.startswith(f"{__name__}."):
            return None
        others = [finder for finder in sys.meta_path if finder is not cls]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module: ModuleType) -> None:
                load(module)
                if cls in sys.meta_path and _can_register(after=name):
                    _register()

            # Of this loader alone, which is to load nothing else.
            spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec


def _can_register(after: str = "") -> bool:
    """Whether fairseq is there, and neither it nor a part of the plugin is only half imported."""
    parts = [name for name in sys.modules if name.startswith(f"{__name__}.")]
    return sys.modules.get("fairseq") is not None and not any(
        getattr(sys.modules[name].__spec__, "_initializing", False)
        for name in ["fairseq", *parts]
        if name != after
    )


def _register() -> None:
    # fairseq loads checkpoints as torch does.
    refuse_unsafe_loading()
    if _Registering in sys.meta_path:
        sys.meta_path.remove(_Registering)
    importlib.import_module("convbert_plugin.tasks")


if _can_register():
    _register()
else:
    sys.meta_path.insert(0, _Registering)
