# Shortcuts; `.ci/run` runs the same commands.

# Lists the recipes.
default:
    @just --list

# Everything that must hold before a change goes in.
ci:
    .ci/run

# All tests of all packages; arguments go to cargo: `just test --test tidy`.
test *arguments:
    cargo test {{ arguments }}

# Hundreds and thousands of races, kills and cuts, of which `just test` runs a share.
proofs:
    .ci/run proofs

# Format and lints.
lint:
    .ci/run format clippy

# Formats the Rust sources and the contract.
format:
    cargo fmt --all
    .ci/buf format --write

# The documentation of the packages, in target/doc.
docs:
    .ci/run docs

# Lint and format of the contract, and its compatibility with the last release.
proto-lint:
    .ci/run proto

# Makes the contract of this tree the baseline of that comparison: when it lands.
contract-baseline:
    .ci/buf build --exclude-source-info -o proto/baseline.binpb

# The unit of systemd and the replicas, run for real where this is root, and the image.
deploy:
    .ci/run deploy

# Licences, sources and bans of the dependencies.
licences:
    .ci/run licences

# The main job on real processes, in a few seconds.
demo:
    cargo run -- demo

# A server; arguments go to it: `just serve --listen 127.0.0.1:0`.
serve *arguments:
    cargo run -- serve {{ arguments }}

# The examples in Rust and other languages against a server of their own: `just polyglot python go`.
polyglot *languages:
    polyglot/run {{ languages }}

# How fast it is, as in BENCHMARKS.md; names of cases run those only: `just bench replay`.
bench *cases:
    cargo bench --bench speed -- {{ cases }}

# How many instructions the hot paths take; `just instructions --keep` writes them down.
instructions *arguments:
    cargo bench --bench instructions -- {{ arguments }}

# What comes from outside, with random bytes, 60 s each target; or `just fuzz page_tokens 600`.
fuzz target='' seconds='60':
    fuzz/run '{{ target }}' {{ seconds }}

# Client and server in a simulated network, and three replicas, with so many random seeds: `just simulate 100`.
simulate runs="5000":
    SIMULATION_RUNS={{ runs }} cargo test --test simulation every -- --nocapture

# `kill -9` of a server under load, with agents and follow-ups, so many times.
crash cycles="10000":
    CALLPARK_REPETITIONS={{ cycles }} cargo test --test it crash -- --nocapture

# `kill -9` of a server whose runs go on in a shim, so many times.
shims cycles="10000":
    CALLPARK_REPETITIONS={{ cycles }} cargo test --test it program::shim::kills -- --nocapture

# Random faults of three replicas under load, so many.
replicas faults="1000":
    CALLPARK_REPETITIONS={{ faults }} cargo test --features postgres,testing --test postgres -- replicas::faults --nocapture

# An upgrade from the program of an earlier commit, which is built first: `just upgrade HEAD~30`.
upgrade commit='':
    .ci/upgrade {{ commit }}

# Random damage of the files of a store, so many times.
damage rounds="1000":
    CALLPARK_REPETITIONS={{ rounds }} cargo test --test it random_damage -- --nocapture

# Delays of other work by the largest requests of each shape, at most 50 ms in the release build.
delays:
    CALLPARK_PROOFS=1 cargo test --release -p callpark --test it descriptor::delays -- --nocapture

# Mixed load on the real server for ten minutes, or for so many seconds: `just soak 60`.
soak seconds="600":
    CALLPARK_SOAK_SECONDS={{ seconds }} cargo test --release -p callpark --test it soak -- --ignored --nocapture
