# Everything here is one go command or a few; make only remembers them. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help run dev demo test faults mutants check fuzz contracts current generate bench build

# The pinned tools live in tools/go.mod, so that the program's own go.mod lists only what it links.
tool := go tool -modfile=tools/go.mod
contexts := orders inventory payments

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start everything on http://127.0.0.1:3000, data in ./orderkeep-data
	go run ./cmd/orderkeep serve

dev: ## start every service as a process of its own, restarted when its code changes; Ctrl-C ends all
	@tools/dev

demo: ## start with sample stock and a week of real sales, and stay up
	go run ./cmd/orderkeep demo

build: ## build the programs into ./bin
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

test: ## run all tests
	go test ./...

faults: ## break everything around Orderkeep under load, and look what is left; LONG=1 takes an hour
	FAULTS=1 go test -count=1 -parallel 3 -timeout 90m -v -run '$(RUN)' ./test/faults

mutants: ## build bugs in, one at a time, and show that each is caught
	ORDERKEEP_MUTANTS=1 go test -count=1 -timeout 60m -v -run MutantsAreCaught ./test/mutants

check: ## all that CI asks beyond the tests: format, vet, lint, contracts, generated code, race detector
	@unformatted="$$(gofmt -l .)"; test -z "$$unformatted" || { echo "gofmt -w $$unformatted"; exit 1; }
	go vet ./...
	CGO_ENABLED=0 go vet -C test/collector -trimpath .
	$(tool) staticcheck ./...
	tools/contracts
	$(MAKE) --no-print-directory current
	go test -race ./orders/... ./inventory/... ./payments/... ./internal/...

fuzz: ## run every fuzz target for FUZZTIME (60s), one after the other
	@tools/fuzz

contracts: ## fail if a contract breaks what the last release, or the commit before, promised
	tools/contracts

generate: ## write the code that comes from the contracts (*/v1)
	$(tool) buf generate
	for c in $(contexts); do $(tool) ogen --config ogen.yml --target $$c/v1/rest --package rest --clean $$c/v1/openapi.yaml || exit 1; done
	@# ogen grows a buffer for each answer: a fifth of what a page of orders takes. Its library keeps some.
	for c in $(contexts); do f=$$c/v1/rest/oas_response_encoders_gen.go; \
		sed -i.ogen 's/e := new(jx.Encoder)/e := jx.GetEncoder(); defer jx.PutEncoder(e)/' $$f && rm $$f.ogen && gofmt -w $$f || exit 1; done

current: ## fail if the generated code is not what the contracts give
	@copy="$$(mktemp -d)" && trap 'rm -rf "$$copy"' EXIT && \
	cp -R Makefile go.mod go.sum buf.yaml buf.gen.yaml ogen.yml tools "$$copy" && \
	for c in $(contexts); do mkdir -p "$$copy/$$c" && cp -R $$c/v1 "$$copy/$$c" || exit 1; done && \
	find "$$copy" -name '*.pb.go' -delete && find "$$copy" -name 'oas_*_gen.go' -delete && \
	$(MAKE) --no-print-directory -C "$$copy" generate >/dev/null && \
	for c in $(contexts); do diff -r "$$copy/$$c/v1" $$c/v1 || { echo "$$c/v1 is not what its contract gives: run make generate"; exit 1; }; done && \
	echo "the generated code is current"

bench: ## measure everything beside floors, a quarter of an hour, and write bench/RESULTS.md; QUICK=1 takes minutes and writes nothing
	go run ./bench/table $(if $(QUICK),-quick,-o bench/RESULTS.md)
