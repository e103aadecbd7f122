//! A synthetic fleet: links, clocks and service times of agents, drawn from a seed.
#![forbid(unsafe_code)]
