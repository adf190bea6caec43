# List the recipes.
default:
    @just --list

# What CI runs.
ci:
    .ci/run

# Everything, on a real MongoDB replica set; arguments go to `cargo test`.
test *args:
    cargo xtask test -- {{args}}

# Format everything.
fmt:
    cargo fmt --all

# Lint everything.
lint:
    cargo clippy --workspace --all-targets -- -D warnings
    cargo xtask tidy

# Start a MongoDB replica set for development, until Ctrl-C.
mongod:
    cargo xtask mongod
