//! The protocol holds within the small bounds, and each mistake is found there.

use muster_lease_model::{Bounds, Plant, search};

#[test]
fn every_order_of_events_keeps_the_promise() {
    let found = search(Bounds::SMALL, None);
    assert!(found.broken.is_empty(), "{}", found.broken[0].0.to_owned() + "\n" + &found.broken[0].1);
    assert_eq!(found.missing, [""; 0]);
    // A search that got smaller looks at less than it says.
    assert!(found.states > 100_000, "{} states", found.states);
}

#[test]
fn every_mistake_is_found() {
    for plant in Plant::all() {
        let found = search(Bounds::SMALL, Some(plant));
        let broken: Vec<&str> = found.broken.iter().map(|(property, _)| *property).collect();
        assert!(broken.contains(&plant.breaks()), "{}: {} states, {broken:?}", plant.name(), found.states);
    }
}
