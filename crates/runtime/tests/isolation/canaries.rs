//! Tests that a slot is clean when the next guest gets it, whatever the previous guest has left in it.

use crate::support::{Bounds, LONG, ask, engine, guest};

/// The number of pages that the memory of each guest grows to.
const PAGES: u32 = 64;

/// Returns a guest that checks that its memory, table and global are those of a new instance, overwrites them, and ends
/// with the instructions `leave`. Each `number` results in a different module, whose data starts at a different page.
fn writer(number: u32, leave: &str) -> String {
    let data = 4096 * (number + 1);
    format!(
        r#"(memory 1)
        (table $t 10 1000 funcref)
        (global $g (mut i64) (i64.const 7))
        (data (i32.const {data}) "data of guest {number:04}")
        (elem declare func $f)
        (func $f)
        (func $check_zero (param $from i32) (param $to i32)
            (loop $again
                (if (i32.lt_u (local.get $from) (local.get $to))
                    (then
                        (if (i32.ne (i32.load8_u (local.get $from)) (i32.const 0)) (then unreachable))
                        (local.set $from (i32.add (local.get $from) (i32.const 1)))
                        (br $again)))))
        (func (export "handle") (param i32 i32) (local $n i32)
            (if (i64.ne (global.get $g) (i64.const 7)) (then unreachable))
            (if (i32.eq (memory.grow (i32.const {grown})) (i32.const -1)) (then unreachable))
            (call $check_zero (i32.const 0) (i32.const {data}))
            ;; "data" and "0000" to "9999", as they were in the module.
            (if (i32.ne (i32.load (i32.const {data})) (i32.const 0x61746164)) (then unreachable))
            (call $check_zero (i32.const {after}) (i32.const {end}))
            (drop (table.grow $t (ref.null func) (i32.const 990)))
            (loop $again
                (if (i32.eqz (ref.is_null (table.get $t (local.get $n)))) (then unreachable))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $n) (i32.const 1000))))
            (memory.fill (i32.const 0) (i32.const 0xaa) (i32.const {end}))
            (table.fill $t (i32.const 0) (ref.func $f) (i32.const 1000))
            (global.set $g (i64.const 0xaaaa))
            {leave})"#,
        grown = PAGES - 1,
        after = data + "data of guest 0000".len() as u32,
        end = PAGES * 65536,
    )
}

#[tokio::test]
async fn no_byte_of_one_guest_is_seen_by_the_next() {
    // The pool has room for only one instance at a time, so all guests use the same slots, one after the other.
    let engine = engine(1);
    let bounds = Bounds { requests_per_instance_max: 1, instances_max: 1, ..Bounds::default() };
    let quiet: Vec<_> = (0..3).map(|number| guest(&engine, &writer(number, ""), &bounds)).collect();
    let loud: Vec<_> = (3..6).map(|number| guest(&engine, &writer(number, "unreachable"), &bounds)).collect();
    for round in 0..12 {
        for (one, other) in quiet.iter().zip(&loud) {
            ask(one, LONG).await.unwrap_or_else(|failure| panic!("round {round}: {failure}"));
            let failure = ask(other, LONG).await.expect_err("the guest traps at its end");
            let inside = failure.backtrace().len();
            // If a check had trapped, the call stack would have an additional frame above those of the handler.
            assert_eq!(inside, 2, "round {round}: {failure} {:?}", failure.backtrace());
        }
    }
}

#[tokio::test]
async fn a_guest_that_finds_data_in_its_slot_traps() {
    let engine = engine(1);
    // The same instance handles both requests, so the second request must find the data of the first one.
    let bounds = Bounds { requests_per_instance_max: 2, instances_max: 1, ..Bounds::default() };
    let group = guest(&engine, &writer(0, ""), &bounds);
    ask(&group, LONG).await.unwrap();
    ask(&group, LONG).await.expect_err("the guest has overwritten its memory");
}
