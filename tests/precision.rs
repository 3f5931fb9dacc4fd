//! `--precision bf16`: nearly the same results, never compared with float32.
#![cfg(feature = "torch")]

mod common;

use common::Demo;
use detgate::model::kernels::Isa;
use serde_json::Value;

fn ap(demo: &Demo) -> f64 {
    let report: Value = serde_json::from_slice(&demo.report()).unwrap();
    report["coco"]["AP"].as_f64().unwrap()
}

#[test]
fn a_baseline_is_compared_with_runs_of_its_own_precision_only() {
    let demo = Demo::blessed();
    let bf16 = ["--precision", "bf16"];
    if Isa::bf16().is_none() {
        let _ = std::fs::remove_dir_all(demo.path("reports"));
        let text = demo.refusal(&bf16);
        assert!(text.contains("AVX512_BF16") && text.contains("--precision f32"), "{text}");
        return;
    }
    assert_eq!(demo.eval(&[]).code(), 0);
    let exact = ap(&demo);
    let other = demo.eval(&bf16);
    assert_eq!(other.code(), 4, "{}", other.stderr());
    let said = other.stdout() + &other.stderr();
    assert!(said.contains("precision: baseline f32, candidate bf16"), "{said}");
    assert!((ap(&demo) - exact).abs() < 0.02, "{} {exact}", ap(&demo));
    let report = demo.report();
    for workers in ["1", "3"] {
        assert_eq!(
            demo.eval(&["--precision", "bf16", "--no-cache", "--workers", workers]).code(),
            4
        );
        assert!(demo.report() == report, "the number of workers changes the report");
    }
    let held = demo
        .command(&["eval", "--no-register", "--precision", "bf16"])
        .env("ATEN_CPU_CAPABILITY", "avx2")
        .output()
        .unwrap();
    assert_eq!(held.status.code(), Some(2), "the kernels are not held to AVX2");
    let blessed = demo.run(&["bless", "--force", "--reason", "faster"]);
    assert_eq!(blessed.code(), 0, "{}", blessed.stderr());
    assert_eq!(demo.eval(&bf16).code(), 0);
    assert_eq!(demo.eval(&[]).code(), 4);
}

#[test]
fn torchscript_decides_itself() {
    let demo = Demo::whole();
    let script = common::fixtures().join("parity/contract.torchscript.pt");
    let script = script.to_str().unwrap();
    let text = demo.refusal(&["--precision", "bf16", "--torchscript", script]);
    assert!(text.contains("precision bf16 is for checkpoints"), "{text}");
}
