//! Components that attack while they are instantiated, or that no compiler would produce. They are written as text.
//!
//! These tests also check that the next guest finds no data in the attacker's slots: one component fills all memories
//! and tables of a small pool, and then another component gets the same memories and tables.

use isomer_apps::RevisionError;
use isomer_diagnostics::chain;
use isomer_runtime::engine::{Engine, PoolSizes};

use crate::harness::{Setup, one, until};
use crate::small_engine::{self, SmallNode};
use crate::start_functions::STARTS;
use crate::{attacked_node, wat_components};

/// The deadline of a request, which is long enough for starting an instance on a busy machine.
const DEADLINE_MS: u64 = 1000;

/// A component that is refused before it is compiled: its bytes, and a part of the error message.
struct RefusedComponent {
    name: &'static str,
    component: fn() -> Vec<u8>,
    contains: &'static str,
}

/// All components that are refused. `docs/reference/attacks.md` also lists their names.
const REFUSED: &[RefusedComponent] = &[
    RefusedComponent {
        name: "table bomb at the start",
        component: || wat_components::handler("(table 9000000 funcref)", ""),
        contains: "a table of the component has 9000000 elements at the start; at most 100000 are allowed",
    },
    RefusedComponent {
        name: "many memories",
        component: || wat_components::with(&wat_components::handler("", ""), &many_memories()),
        contains: "memories",
    },
    RefusedComponent {
        name: "instances of an imported module",
        component: || wat_components::with(&wat_components::handler("", ""), &handed_in()),
        contains: "memories",
    },
    RefusedComponent {
        name: "instance bomb",
        component: || wat_components::with(&wat_components::handler("", ""), &instance_bomb(20)),
        contains: "stacks for 2097155 components",
    },
    RefusedComponent {
        name: "import of a function that connects components",
        component: || wat_components::text(r#"(component (import "isomer:link/wire@1.0.0" (instance)))"#),
        contains: "isomer:link/wire",
    },
    RefusedComponent {
        name: "export of a function that connects components",
        component: || {
            wat_components::text(r#"(component (instance $it) (export "isomer:link/dispatch@1.0.0" (instance $it)))"#)
        },
        contains: "isomer:link/dispatch",
    },
    RefusedComponent {
        name: "import of an unavailable function",
        component: || {
            wat_components::text(
                r#"(component (import "evil:host/memory@1.0.0" (instance (export "read" (func (param "at" u32) (result u32))))))"#,
            )
        },
        contains: "evil:host/memory",
    },
    RefusedComponent {
        name: "import of a core module",
        component: || wat_components::text(r#"(component (import "foreign-parts" (core module)))"#),
        contains: "foreign-parts",
    },
    RefusedComponent {
        name: "core module in place of a component",
        component: || wat_components::text("(module)"),
        contains: "component",
    },
    RefusedComponent {
        name: "compiled code in place of a component",
        component: || b"\x7fELF\x02\x01\x01\0".to_vec(),
        contains: "component",
    },
];

/// Returns a component with 270 memories: three instances of a module that has nearly as many memories as a module may
/// have.
fn many_memories() -> Vec<u8> {
    let memories = "(memory 0)".repeat(90);
    let instances = "(core instance (instantiate $m))".repeat(3);
    wat_components::text(&format!("(component (core module $m {memories}) {instances})"))
}

/// Returns a component with 270 memories: a nested component imports a module and instantiates it 270 times.
fn handed_in() -> Vec<u8> {
    let instances = "(core instance (instantiate $given))".repeat(270);
    wat_components::text(&format!(
        r#"(component
            (core module $m (memory (export "memory") 0))
            (component $nested
                (import "given" (core module $given (export "memory" (memory 0))))
                {instances})
            (instance (instantiate $nested (with "given" (core module $m)))))"#
    ))
}

/// Returns a component with `2^levels` instances in a few bytes: each level instantiates the previous level twice.
fn instance_bomb(levels: u32) -> Vec<u8> {
    let mut text = String::from("(component (component $c0 (core module $m) (core instance (instantiate $m)))");
    for level in 1..=levels {
        let below = level - 1;
        text += &format!(
            "(component $c{level} (alias outer 1 $c{below} (component $below))
                (instance (instantiate $below)) (instance (instantiate $below)))"
        );
    }
    wat_components::text(&format!("{text} (instance (instantiate $c{levels})))"))
}

/// Returns the names of all attacks that are made while a component is instantiated.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    STARTS.iter().map(|start| start.name).chain(REFUSED.iter().map(|refused| refused.name))
}

#[tokio::test(flavor = "multi_thread")]
async fn components_that_need_too_much_are_refused_before_compiling() {
    let _exclusive = attacked_node::exclusive().await;
    let engine = Engine::on_demand().expect("an engine with a compiler");
    for refused in REFUSED {
        let name = refused.name;
        let manifest = "[components.hostile]\nwasm = \"hostile.wasm\"\nroutes = [\"/...\"]\n";
        let reported = match small_engine::package(manifest, &[("hostile", (refused.component)())], &engine) {
            Ok(_) => panic!("{name}: the component was accepted"),
            Err(RevisionError::Plan(findings)) => format!("{findings:?}"),
            Err(error) => chain(&error),
        };
        assert!(reported.contains(refused.contains), "{name}: no `{}` in {reported}", refused.contains);
    }
}

/// Starts a node with `component` on the paths below `/hostile/`, and a neighbour.
async fn node(component: Vec<u8>, deadline_ms: u64, engine: &Engine) -> SmallNode {
    let manifest = format!(
        r#"
        [components.hostile]
        wasm = "hostile.wasm"
        routes = ["/hostile/..."]
        isolate = true
        limits.memory = "64MiB"
        limits.request_deadline = "{deadline_ms}ms"
        [components.neighbour]
        wasm = "neighbour.wasm"
        routes = ["/neighbour/..."]
        isolate = true
        "#
    );
    let neighbour = isomer_test_guests::bytes("http-hello");
    SmallNode::start(&manifest, &[("hostile", component), ("neighbour", neighbour)], engine).await
}

#[tokio::test(flavor = "multi_thread")]
async fn harmful_start_functions_fail_only_their_own_request() {
    let _exclusive = attacked_node::exclusive().await;
    let engine = Engine::new(PoolSizes::of_one_app()).expect("enough address space");
    for start in STARTS {
        let name = start.name;
        let node = node(wat_components::handler(start.fields, start.body), DEADLINE_MS, &engine).await;
        for _ in 0..2 {
            let response = node.get("/hostile/").await;
            assert_eq!(response.status, start.status, "{name}: {}", response.text());
            if start.status != 200 {
                let id = response.problem(start.status);
                let event = node.failed(&id).await;
                let reported = event["reason"].as_str().is_some_and(|reason| reason.contains(start.log));
                assert!(reported, "{name}: the log does not contain `{}`: {event}", start.log);
            }
            assert_eq!(node.get("/neighbour/").await.ok(), "hello from WASI 0.3\n", "{name}");
        }
    }
}

/// Checks that `guests/hostile` finds its canary in a reused instance. Otherwise, the tests in which it finds none
/// would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_canary_finds_leftovers() {
    let _exclusive = attacked_node::exclusive().await;
    let node = Setup::new(&one("hostile", "")).options(|options| options.instances_max = Some(1)).start().await;
    assert!(node.get("/canary").await.ok().starts_with("found=0 "));
    assert_eq!(node.get("/touch?bytes=4096").await.ok(), "touched=4096\n");
    let found = node.get("/canary").await;
    assert!(!found.ok().starts_with("found=0 "), "{}", found.text());
}

/// The number of instances in the pool. The pool has four memories and four tables for each instance, but a single
/// instance may use all memories and tables of the pool.
pub(crate) const INSTANCES: u32 = 2;

/// The number of memories in the pool.
const MEMORIES: usize = 8;

/// The number of tables in the pool, without the table that the tools add to a component for its calls of host
/// functions.
const TABLES: usize = 7;

/// Returns the definitions of memories and tables of a component that uses the whole pool.
fn parts() -> String {
    let memories = (1..MEMORIES).map(|number| format!("(memory $m{number} 100)"));
    let tables = (0..TABLES).map(|number| format!("(table $t{number} 20000 funcref)"));
    format!("(memory $m0 (export \"memory\") 100) {}", memories.chain(tables).collect::<String>())
}

/// Returns a component that fills all memories and tables of the pool with data.
pub(crate) fn filling() -> Vec<u8> {
    let memories = (0..MEMORIES)
        .map(|number| format!("(memory.fill $m{number} (i32.const 0) (i32.const 0xA5) (i32.const 6553600))"));
    let tables =
        (0..TABLES).map(|number| format!("(table.fill $t{number} (i32.const 0) (ref.func $noted) (i32.const 20000))"));
    let fields = format!("{} (elem declare func $noted) (func $noted)", parts());
    wat_components::handler(&fields, &memories.chain(tables).collect::<String>())
}

/// Returns a component that checks all memories and tables of the pool. It responds with status 500 if a byte is not 0,
/// and with status 501 if a table has an element that is not null.
pub(crate) fn looking() -> Vec<u8> {
    let memories = (0..MEMORIES).map(|number| {
        format!(
            "(local.set $number (i32.const 0))
            (loop $again
                (if (i64.ne (i64.load $m{number} (local.get $number)) (i64.const 0))
                    (then (local.set $status (i32.const 500))))
                (local.set $number (i32.add (local.get $number) (i32.const 8)))
                (br_if $again (i32.lt_u (local.get $number) (i32.const 6553600))))"
        )
    });
    let tables = (0..TABLES).map(|number| {
        format!(
            "(local.set $number (i32.const 0))
            (loop $again
                (if (i32.eqz (ref.is_null (table.get $t{number} (local.get $number))))
                    (then (local.set $status (i32.const 501))))
                (local.set $number (i32.add (local.get $number) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $number) (i32.const 20000))))"
        )
    });
    wat_components::handler(&parts(), &memories.chain(tables).collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_slot_is_empty() {
    let _exclusive = attacked_node::exclusive().await;
    let engine = Engine::new(PoolSizes::new(INSTANCES)).expect("enough address space");
    for round in 0..3 {
        for (what, component) in [("filled", filling()), ("looked", looking())] {
            // The neighbour gets no request, because the attacker uses the whole pool.
            let node = node(component, 10_000, &engine).await;
            until("room in the pool", async || {
                let response = node.get("/hostile/").await;
                let busy = response.status == 503;
                assert!(
                    busy || response.status == 200,
                    "{what}, round {round}: {} {}",
                    response.status,
                    response.text()
                );
                (!busy).then_some(())
            })
            .await;
        }
    }
}
