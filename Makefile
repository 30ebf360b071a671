# Every target is a command of local/__main__.py, which says what each does.
PYTHON ?= python3
export NODES ARGS

.PHONY: help up preview outputs kubeconfig pulumi down clean test test-unit check bench
help up preview outputs kubeconfig pulumi down clean test test-unit check bench:
	@$(PYTHON) -m local $@
