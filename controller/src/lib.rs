//! The controller: compiles and pushes policy, takes in flows, learns, reports incidents.
