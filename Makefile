# Short names for what CMake does. Everything that is built lands under build/.
#   make            the command build/elbo and the libraries         make test       the gcc build and the suite (script/test)
#   make demo       train on the digits in share/, write a report    make test-full  clang, sanitizers, format, fuzz (script/test --full)
#   make bench      elbo beside PyTorch                              make test-long  whole trainings to their figures (script/test --long)
#   make fuzz       every fuzz target, a minute each
#   make install PREFIX=/usr/local [DESTDIR=]                        make docs        docs/recipes.md, from the tables that read recipes
#   make clean

BUILD ?= build
PREFIX ?= /usr/local
ELBO_BUILD_TYPE ?= Release
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
GENERATOR := $(shell command -v ninja >/dev/null 2>&1 && echo -G Ninja)

.PHONY: all configure test test-full test-long demo bench fuzz docs install clean
all: configure
	@cmake --build $(BUILD) -j $(JOBS)

# A build directory keeps the generator that it was made with.
configure:
	@mkdir -p $(BUILD); if [ -f $(BUILD)/CMakeCache.txt ]; then generator=; else generator="$(GENERATOR)"; fi; \
	cmake -S . -B $(BUILD) $$generator -DCMAKE_BUILD_TYPE=$(ELBO_BUILD_TYPE) -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS) \
	  >$(BUILD)/configure.log 2>&1 || { cat $(BUILD)/configure.log; exit 1; }

test:
	@script/test

test-full:
	@script/test --full

test-long:
	@script/test --long

demo:
	@script/demo

bench: all
	@bench/run.sh

fuzz:
	@script/fuzz 60

docs: all
	@$(BUILD)/elbo train --keys >docs/recipes.md.new && mv docs/recipes.md.new docs/recipes.md

install: all
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf $(BUILD)
