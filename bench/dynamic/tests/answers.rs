//! Checks that components linked by dynamic values return correct results, because the speed of wrong results has no
//! meaning.

use isomer_bench_dynamic::Linked;
use isomer_bench_workload::{Mode, What, Work, expected};

#[tokio::test]
async fn results_are_correct() {
    let bytes = isomer_test_guests::bytes;
    let linked = Linked::new(&bytes("seam-bench-caller"), &bytes("seam-bench-callee")).await.unwrap();
    for what in [What::Add, What::Echo, What::Lookup, What::All] {
        for (mode, concurrency) in [(Mode::Sync, 1), (Mode::Async, 1), (Mode::Async, 7)] {
            let work = Work { what, mode, calls: 20, size: 30, concurrency };
            let result = linked.run(work.to_string()).await.unwrap();
            assert!(result.contains(&format!("\"checksum\":\"{:016x}\"", expected(work))), "{work}: {result}");
        }
    }
    let refused = linked.run("what=nothing".to_owned()).await.unwrap_err();
    assert!(refused.contains("`nothing`"), "{refused}");
}
