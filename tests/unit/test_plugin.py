"""What the plugin does to arguments before the component has them."""

from __future__ import annotations

from pathlib import Path

from kube_proxy_replacement.plugin import Served


def test_arguments_come_by_their_names_in_python_each_as_it_came() -> None:
    served = Served(Path("/checkout"))
    (component,) = served._component_defs.values()
    seconds, balancer = object(), object()  # outputs, perhaps unknown or secret ones
    told = served.map_inputs({"timeoutSeconds": seconds, "loadBalancer": balancer, "mode": "replace"}, component)
    assert told == {"timeout_seconds": seconds, "load_balancer": balancer, "mode": "replace"}


def test_one_that_is_no_setting_goes_on_to_the_component_which_names_the_nearest() -> None:
    served = Served(Path("/checkout"))
    (component,) = served._component_defs.values()
    assert served.map_inputs({"ciliumVersio": "1.18.6"}, component) == {"ciliumVersio": "1.18.6"}
