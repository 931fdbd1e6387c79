//! Functions that programs call in masses. They are no methods of a class: whenever one of these is called, napi-rs
//! compares the type tag of its object and enters it in a table of borrows.

use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use napi::{Env, JsError, JsValue, Unknown, sys};

use super::arguments::{check, command, text, thrown};
use crate::connection::command::Command;
use crate::error::Error;

/// The arguments of a call, as long as it runs.
pub(super) struct Arguments<'call, const N: usize> {
    env: &'call Env,
    values: [sys::napi_value; N],
}

impl<const N: usize> Arguments<'_, N> {
    /// A text.
    pub(super) fn text(&self, index: usize) -> napi::Result<String> {
        let value = self.values[index];
        // SAFETY: the value is a live handle of the running call, as arguments exist no longer than that.
        unsafe { text(self.env.raw(), value) }
    }

    /// A number.
    pub(super) fn number(&self, index: usize) -> napi::Result<f64> {
        let value = self.values[index];
        let mut number = 0.0;
        // SAFETY: as in `text`, and `number` is a live local.
        check(unsafe { sys::napi_get_value_double(self.env.raw(), value, &mut number) })?;
        Ok(number)
    }

    /// A boolean.
    pub(super) fn boolean(&self, index: usize) -> napi::Result<bool> {
        let mut boolean = false;
        // SAFETY: as in `text`, and `boolean` is a live local.
        check(unsafe { sys::napi_get_value_bool(self.env.raw(), self.values[index], &mut boolean) })?;
        Ok(boolean)
    }

    /// A command from an array of strings and byte arrays, which TypeScript has checked.
    pub(super) fn command(&self, index: usize) -> napi::Result<Command> {
        // SAFETY: as in `text`.
        unsafe { command(self.env.raw(), self.values[index]) }
    }
}

/// A function that runs `call`, and keeps it until it is collected.
pub(super) fn bound<'env, const N: usize, F>(
    env: &'env Env,
    name: &CStr,
    call: F,
) -> napi::Result<Unknown<'env>>
where
    F: for<'call> Fn(&'call Env, Arguments<'call, N>) -> napi::Result<Unknown<'call>> + 'static,
{
    let data: *mut c_void = Box::into_raw(Box::new(call)).cast();
    let mut function = ptr::null_mut();
    // SAFETY: `env` is of the running call, the name ends with a NUL, and both pointers are to live locals. The box
    // belongs to the function from the moment when the finalizer is added; if it cannot be, nobody got the function.
    unsafe {
        let created = check(sys::napi_create_function(
            env.raw(),
            name.as_ptr(),
            name.count_bytes() as isize,
            Some(on_call::<N, F>),
            data,
            &mut function,
        ));
        let owned = created.and_then(|()| {
            check(sys::napi_add_finalizer(
                env.raw(),
                function,
                data,
                Some(on_collected::<F>),
                ptr::null_mut(),
                ptr::null_mut(),
            ))
        });
        if let Err(error) = owned {
            drop(Box::from_raw(data.cast::<F>()));
            return Err(error);
        }
        Ok(Unknown::from_raw_unchecked(env.raw(), function))
    }
}

unsafe extern "C" fn on_call<const N: usize, F>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value
where
    F: for<'call> Fn(&'call Env, Arguments<'call, N>) -> napi::Result<Unknown<'call>> + 'static,
{
    let mut values = [ptr::null_mut(); N];
    let (mut count, mut data) = (N, ptr::null_mut());
    // SAFETY: N-API calls this with live pointers, and writes exactly N values, `undefined` where none was given.
    let got = check(unsafe {
        sys::napi_get_cb_info(env, info, &mut count, values.as_mut_ptr(), ptr::null_mut(), &mut data)
    });
    let env = Env::from_raw(env);
    let outcome = got.and_then(|()| {
        // SAFETY: `data` is the box of `bound`, and lives as long as the function that is being called.
        let call = unsafe { &*data.cast::<F>() };
        let run = || call(&env, Arguments { env: &env, values }).map(|value| value.raw());
        catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Err(thrown(&env, &Error::from_panic(&*panic))))
    });
    outcome.unwrap_or_else(|error| {
        // SAFETY: on the environment's thread, within the call.
        unsafe { JsError::from(error).throw_into(env.raw()) };
        ptr::null_mut()
    })
}

unsafe extern "C" fn on_collected<F>(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: `data` is the box of `bound`, and the function that it belonged to is gone.
    drop(unsafe { Box::from_raw(data.cast::<F>()) });
}
