use clap::Parser;

use super::*;

#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    command: PriceCommand,
}

fn run(arguments: &[&str]) -> anyhow::Result<String> {
    let command = Command::try_parse_from(std::iter::once(&"price").chain(arguments))?;
    match command.command {
        PriceCommand::List(arguments) => arguments.run(),
        PriceCommand::Show(arguments) => arguments.run(),
        PriceCommand::Explain(_) => unreachable!("not tested here"),
    }
}

fn error(arguments: &[&str]) -> String {
    let error = run(arguments).unwrap_err().to_string();
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    error
}

#[test]
fn a_model_is_shown_with_all_its_prices() {
    let out = run(&["show", "o3-2025-04-16", "--provider", "openai.responses", "--at", "2025-06-09"]).unwrap();
    assert!(out.starts_with("openai/o3\n  matched   by the name as given (exact)\n"), "{out}");
    assert!(out.contains("▸ openai/o3\n") && out.contains("  openai/o3@2025-06-10\n"), "{out}");
    assert!(out.contains("valid     from 2025-06-10 UTC"), "{out}");
    // Half of 2 and 1.75 times 2.
    assert!(out.contains("flex      input                     1 USD per million tokens"), "{out}");
    assert!(out.contains("priority  input                   3.5 USD per million tokens"), "{out}");
    let later = run(&["show", "o3", "--at", "2025-06-10"]).unwrap();
    assert!(later.contains("▸ openai/o3@2025-06-10\n") && later.contains("(inferred_exact)"), "{later}");
}

#[test]
fn tiers_and_fees_are_shown() {
    let tiers = run(&["show", "grok-4.20", "--provider", "xai", "--at", "2026-06-01"]).unwrap();
    assert!(tiers.contains("1.25 USD per million tokens; >= 200000 input tokens in all: 2.5"), "{tiers}");
    assert!(tiers.contains("source    https://docs.x.ai/"), "{tiers}");
    let fees = run(&["show", "sonar", "--provider", "perplexity"]).unwrap();
    assert!(fees.contains("requests                 12 USD per thousand"), "{fees}");
}

#[test]
fn lists_are_tables_csv_and_json() {
    let table = run(&["list", "--provider", "xai", "--at", "2026-06-01"]).unwrap();
    let line = table.lines().find(|line| line.contains("grok-4.20 ")).unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["x-ai", "grok-4.20", "1.25", "2.5", "0.2", ">=200000", "batch"]
    );
    let csv = run(&["list", "--provider", "openai", "--format", "csv", "--at", "2026-06-01"]).unwrap();
    assert!(csv.starts_with(
        "provider,model,price_id,input,output,cache_read,cache_write,cache_write_1h,tiers,service_tiers\n"
    ));
    assert!(csv.contains("\nopenai,o3,openai/o3@2025-06-10,2,8,0.5,,,,flex priority fast batch\n"), "{csv}");
    let json = run(&["list", "--format", "json", "--at", "2026-06-01"]).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["prices"].as_array().unwrap().len() > 1_000);
    let grok = json["prices"].as_array().unwrap().iter().find(|p| p["id"] == "x-ai/grok-4.20@2026-04-30").unwrap();
    assert_eq!(
        grok["rates"]["input"],
        serde_json::json!(
            {"base": "1.25", "tiers": [{"start": 200_000, "price": "2.5"}], "operator": ">=", "mode": "cliff"}
        )
    );
    assert_eq!(grok["service_tiers"]["batch"]["output"]["base"], "2");
    let shown: Value = serde_json::from_str(&run(&["show", "gpt-4o", "--format", "json"]).unwrap()).unwrap();
    assert_eq!(shown["price_id"], "openai/gpt-4o");
}

#[test]
fn overlays_are_laid_over() {
    let folder = tempfile::tempdir().unwrap();
    let overlay = folder.path().join("own.yaml");
    std::fs::write(&overlay, "prices: [{provider: openai, model: gpt-4o, project: shop, rates: {input: 1}}]").unwrap();
    let overlay = overlay.to_str().unwrap();
    let shown = run(&["show", "gpt-4o", "--overlay", overlay, "--project", "shop"]).unwrap();
    assert!(shown.contains("▸ openai/gpt-4o+overlay(shop)\n"), "{shown}");
    assert!(shown.contains("project   shop"), "{shown}");
    let other = run(&["show", "gpt-4o", "--overlay", overlay]).unwrap();
    assert!(other.contains("▸ openai/gpt-4o\n"), "{other}");
}

#[test]
fn errors_are_one_clear_line() {
    assert!(error(&["show", "gpt-9-nonsense", "--provider", "openai"]).contains("no model `gpt-9-nonsense` of openai"));
    assert!(error(&["show", "gpt-4o", "--provider", "acme"]).contains("`acme` is not a provider"));
    assert!(error(&["show", "ollama/llama3"]).contains("give --provider"));
    assert!(error(&["list", "--provider", "acme"]).contains("no provider `acme`; it has anthropic, "));
    assert!(error(&["list", "--catalog", "/does/not/exist"]).contains("cannot read /does/not/exist"));
    let date = run(&["list", "--at", "yesterday"]).unwrap_err().to_string();
    assert!(date.contains("expected a UTC date such as 2025-06-10"), "{date}");
}
