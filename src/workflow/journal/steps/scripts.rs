//! The scripts that know one key each.

use crate::script::Script;

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("../lua/shared.lua"),
            include_str!("../lua/steps/shared.lua"),
            include_str!(concat!("../lua/steps/", $name, ".lua"))
        ))
    };
}

pub(super) static PUT: Script = script!("put");
pub(super) static UPDATE_RUN_STATUS: Script = script!("update_run_status");
pub(super) static TOUCH_RUN: Script = script!("touch_run");
pub(super) static DROP_RUN: Script = script!("drop_run");
pub(super) static INSERT_STEP: Script = script!("insert_step");
pub(super) static MOVE_STEP: Script = script!("move_step");
pub(super) static RETRY_STEP: Script = script!("retry_step");
pub(super) static CLAIM_STEP: Script = script!("claim_step");
pub(super) static SET_STEP_FIELD: Script = script!("set_step_field");
pub(super) static NOTE: Script = script!("note");
pub(super) static INDEX_STEP: Script = script!("index_step");
pub(super) static DROP_INDEX: Script = script!("drop_index");
