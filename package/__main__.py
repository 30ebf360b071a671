"""What the engine starts for programs in other languages: the component, served."""

from pathlib import Path

from kube_proxy_replacement.plugin import serve

serve(source=Path(__file__).resolve().parents[1])
