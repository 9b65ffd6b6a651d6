//! How the binary is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        // Decision: not position-independent, as Go's programs are not either. With DataFusion the binary holds 200,000
        // addresses, and to move them all at every start takes 12 MiB of memory, which a process at rest would keep, and
        // half of the time until it listens. Stack, heap and libraries lie elsewhere at each start all the same.
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
