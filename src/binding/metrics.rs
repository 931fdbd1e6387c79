//! What the core has counted.

use napi_derive::napi;

use crate::metrics;

/// All metrics of the process, as JSON.
#[napi]
pub fn metrics_snapshot() -> napi::Result<String> {
    serde_json::to_string(&metrics::snapshot()).map_err(|error| napi::Error::from_reason(error.to_string()))
}
