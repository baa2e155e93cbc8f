//! Tests of the store, of three members under faults, and of real members over loopback.
