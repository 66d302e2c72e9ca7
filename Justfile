# Each recipe is one call of cargo; `just` lists them.

_default:
    @just --list

# Train what is missing of an experiment and report: just ablation gamma
ablation NAME *OPTIONS:
    cargo run --release -- ablation {{NAME}} {{OPTIONS}}

# Everything that proves the numbers
test *FILTER:
    cargo test --release {{FILTER}}

# Criterion benches
bench *FILTER:
    cargo bench {{FILTER}}

# Formatting and lints
lint:
    cargo fmt --all --check && cargo clippy --release --all-targets -- --deny warnings

# Tables and figures from the ledgers; just report --check compares them
report *OPTIONS:
    cargo run --release -- report {{OPTIONS}}

# What the continuous integration runs
ci:
    .ci/run
