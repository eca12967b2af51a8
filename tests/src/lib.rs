//! Tests that hold the walls: layering, tidiness, lab, evasion.
