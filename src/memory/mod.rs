//! The embedded engine behind `memory://`.
