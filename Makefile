# Every target is a command of local/__main__.py, which says what each does.
PYTHON ?= python3
export NODES ARGS RUNS SEED FROM STRATEGY

TARGETS := help up preview outputs kubeconfig pulumi down up-real bench-real down-real clean test test-unit check docs bench chaos

.PHONY: $(TARGETS)
$(TARGETS):
	@$(PYTHON) -m local $@
