//! Tests of the registry of connections.

use super::*;
use crate::activity::test_clock;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn registry(max: usize, per_source_max: usize) -> Arc<ConnectionRegistry> {
    let proxy = IpNetwork { address: ip("10.0.0.9"), prefix: 32 };
    later();
    ConnectionRegistry::new(max, per_source_max, vec![proxy])
}

/// Advances the clock that determines idle times.
fn later() {
    test_clock::advance(1);
}

/// Returns whether the connection has been closed to make room for another one.
fn is_evicted(permit: &ConnectionPermit) -> bool {
    !permit.registry.lock().open.contains_key(&permit.id)
}

#[test]
fn a_client_closes_its_own_connections_first() {
    let registry = registry(100, 2);
    let one = registry.accept(ip("192.0.2.1")).expect("a permit");
    let two = registry.accept(ip("192.0.2.1")).expect("a permit");
    let other = registry.accept(ip("192.0.2.2")).expect("a permit");
    let three = registry.accept(ip("192.0.2.1")).expect("a permit");
    assert!(is_evicted(&one) && !is_evicted(&two) && !is_evicted(&other) && !is_evicted(&three));
    // A connection with a request in progress is not closed. If all connections have a request in progress, the
    // next connection is refused.
    let _running = [Activity::begin(&two.activity), Activity::begin(&three.activity)];
    assert!(registry.accept(ip("192.0.2.1")).is_none());
    assert!(registry.accept(ip("192.0.2.2")).is_some());
    let counts = registry.counts();
    assert_eq!((counts.open, counts.accepted, counts.evicted, counts.refused), (3, 5, 1, 1));
}

#[test]
fn beyond_the_maximum_a_connection_of_the_largest_client_is_closed() {
    let registry = registry(4, 3);
    let other = registry.accept(ip("2001:db8:0:1::1")).expect("a permit");
    let mut greedy: Vec<_> = (0..3).map(|_| registry.accept(ip("192.0.2.1")).expect("a permit")).collect();
    let next = registry.accept(ip("2001:db8:0:2::1")).expect("a permit");
    assert!(is_evicted(&greedy[0]) && !is_evicted(&greedy[1]) && !is_evicted(&other) && !is_evicted(&next));
    drop(greedy.remove(0));
    assert_eq!(registry.counts().open, 4);
    // All connections of the client with the most connections are in use, so a connection of another client is
    // closed.
    let _running: Vec<_> = greedy.iter().map(|permit| Activity::begin(&permit.activity)).collect();
    let last = registry.accept(ip("2001:db8:0:3::1")).expect("a permit");
    assert!(!is_evicted(&greedy[0]) && !is_evicted(&last));
    assert!(is_evicted(&other) && !is_evicted(&next), "the connection of the wrong client was closed");
}

#[test]
fn the_connection_that_was_idle_longest_is_closed() {
    let registry = registry(3, 3);
    let all: Vec<_> = (0..3).map(|_| registry.accept(ip("192.0.2.1")).expect("a permit")).collect();
    // After its request, the first connection has been idle for a shorter time than the others, so another one is
    // closed.
    let request = Activity::begin(&all[0].activity);
    later();
    drop(request);
    let _next = registry.accept(ip("192.0.2.1")).expect("a permit");
    assert!(!is_evicted(&all[0]) && is_evicted(&all[1]) && !is_evicted(&all[2]));
}

#[test]
fn among_equal_clients_the_connection_that_was_idle_longest_is_closed() {
    let registry = registry(3, 3);
    // The order of closing is not the order of addresses: the last connection does not have the greatest address.
    let all = ["192.0.2.2", "192.0.2.1", "192.0.2.3"].map(|address| {
        let permit = registry.accept(ip(address)).expect("a permit");
        later();
        permit
    });
    let next = registry.accept(ip("192.0.2.9")).expect("a permit");
    assert_eq!(all.each_ref().map(is_evicted), [true, false, false]);
    later();
    // A busy connection is skipped. It becomes idle when its request ends.
    let request = Activity::begin(&all[1].activity);
    later();
    let another = registry.accept(ip("192.0.2.8")).expect("a permit");
    assert_eq!(all.each_ref().map(is_evicted), [true, false, true]);
    drop(request);
    later();
    drop(registry.accept(ip("192.0.2.7")).expect("a permit"));
    assert!(is_evicted(&next) && !is_evicted(&another) && !is_evicted(&all[1]));
}

#[test]
fn one_client_of_a_proxy_costs_the_others_no_connection() {
    let registry = registry(6, 6);
    let unknown: Vec<_> = (0..3).map(|_| registry.accept(ip("10.0.0.9")).expect("a permit")).collect();
    let proxied = |client: &str| {
        let permit = registry.accept(ip("10.0.0.9")).expect("a permit");
        assert!(permit.move_to(ip(client)));
        permit
    };
    let modest = proxied("192.0.2.1");
    let mut greedy: Vec<_> = (0..20).map(|_| proxied("192.0.2.2")).collect();
    assert!(!unknown.iter().chain([&modest]).any(is_evicted), "the greedy client has closed its own");
    assert_eq!(greedy.iter().filter(|permit| !is_evicted(permit)).count(), 2);
    // If another client opens many direct connections, only connections of clients with many connections are closed.
    let direct: Vec<_> = (0..20).map(|_| registry.accept(ip("192.0.2.3")).expect("a permit")).collect();
    assert!(!unknown.iter().chain([&modest]).any(is_evicted));
    greedy.retain(|permit| !is_evicted(permit));
    assert_eq!((greedy.len(), direct.iter().filter(|permit| !is_evicted(permit)).count()), (1, 1));
}

#[test]
fn connections_of_a_proxy_are_counted_for_its_clients() {
    let registry = registry(100, 1);
    let one = registry.accept(ip("10.0.0.9")).expect("a permit");
    let two = registry.accept(ip("10.0.0.9")).expect("a permit");
    assert!(one.move_to(ip("192.0.2.1")));
    let request = Activity::begin(&one.activity);
    assert!(!two.move_to(ip("192.0.2.1")), "the client already has its one connection");
    drop(request);
    assert!(registry.accept(ip("10.0.0.9")).expect("a permit").move_to(ip("192.0.2.2")));
    drop((one, two));
    assert_eq!(registry.counts().open, 0);
    let open = registry.lock();
    assert!(open.clients.is_empty() && open.by_number.is_empty());
}
