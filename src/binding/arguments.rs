//! Arguments from JavaScript, and errors to it.

use std::ptr;

use napi::sys;
use napi::{Env, JsValue, Unknown};

use crate::connection::command::Command;
use crate::error::Error;
use crate::runtime::{Answer, Environment};

/// Most words fit, and are then read in one call.
const WORD_BUFFER: usize = 1024;

/// Runs an operation on the I/O thread; its answer settles the promise that is returned.
pub(super) fn answer<'env>(
    env: &'env Env,
    operation: impl Future<Output = Answer> + Send + 'static,
) -> napi::Result<Unknown<'env>> {
    let answer = Environment::of(env)?.submit_task(operation)?;
    Ok(promise(env, answer))
}

/// A promise made by [`Environment`], as the return value of a method.
pub(super) fn promise(env: &Env, promise: sys::napi_value) -> Unknown<'_> {
    // SAFETY: the value is a live handle of the running call of `env`.
    unsafe { Unknown::from_raw_unchecked(env.raw(), promise) }
}

/// An error to throw synchronously, with our code. TypeScript turns it into the class of its code.
pub(super) fn thrown(env: &Env, error: &Error) -> napi::Error {
    // SAFETY: `env` is of the running call.
    match unsafe { crate::runtime::output::error_to_js(env.raw(), error) } {
        // SAFETY: the value was just made in this call.
        Ok(value) => napi::Error::from(unsafe { Unknown::from_raw_unchecked(env.raw(), value) }),
        Err(_) => napi::Error::from_reason(error.message().to_owned()),
    }
}

/// A command from an array of strings and byte arrays, which TypeScript has checked.
pub(super) fn command(env: &Env, words: &Unknown<'_>) -> napi::Result<Command> {
    let (env, array) = (env.raw(), words.raw());
    let mut length = 0;
    // SAFETY: `array` is a live handle of the running call.
    check(unsafe { sys::napi_get_array_length(env, array, &mut length) })?;
    let mut words = Words::default();
    for index in 0..length {
        let mut word = ptr::null_mut();
        // SAFETY: as above, and `word` lives as long as the call.
        unsafe {
            check(sys::napi_get_element(env, array, index, &mut word))?;
            words.add(env, word)?;
        }
    }
    Ok(words.into_command())
}

fn check(status: sys::napi_status) -> napi::Result<()> {
    if status == sys::Status::napi_ok {
        Ok(())
    } else {
        Err(napi::Error::new(napi::Status::InvalidArg, "a command is an array of strings and byte arrays"))
    }
}

/// Words of a command, read into one buffer.
#[derive(Default)]
struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    unsafe fn add(&mut self, env: sys::napi_env, word: sys::napi_value) -> napi::Result<()> {
        let start = self.bytes.len();
        let mut copied = 0;
        self.bytes.resize(start + WORD_BUFFER, 0);
        // SAFETY: the buffer has room for WORD_BUFFER bytes, and N-API writes no more, a final NUL included.
        let status = unsafe {
            let buffer = self.bytes.as_mut_ptr().add(start).cast();
            sys::napi_get_value_string_utf8(env, word, buffer, WORD_BUFFER, &mut copied)
        };
        if status == sys::Status::napi_string_expected {
            self.bytes.truncate(start);
            // SAFETY: as the caller's.
            return unsafe { self.add_bytes(env, word) };
        }
        check(status)?;
        // A character of up to four bytes may not have fitted any more.
        if copied + 4 >= WORD_BUFFER {
            // SAFETY: asked for the length first, the buffer has room for it and the final NUL.
            unsafe {
                check(sys::napi_get_value_string_utf8(env, word, ptr::null_mut(), 0, &mut copied))?;
                self.bytes.resize(start + copied + 1, 0);
                let buffer = self.bytes.as_mut_ptr().add(start).cast();
                check(sys::napi_get_value_string_utf8(env, word, buffer, copied + 1, &mut copied))?;
            }
        }
        self.bytes.truncate(start + copied);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    unsafe fn add_bytes(&mut self, env: sys::napi_env, word: sys::napi_value) -> napi::Result<()> {
        let (mut kind, mut length, mut data) = (0, 0, ptr::null_mut());
        // SAFETY: the bytes belong to a live typed array and are copied before any JavaScript runs again.
        unsafe {
            check(sys::napi_get_typedarray_info(
                env,
                word,
                &mut kind,
                &mut length,
                &mut data,
                ptr::null_mut(),
                ptr::null_mut(),
            ))?;
            if kind != sys::TypedarrayType::uint8_array {
                return check(sys::Status::napi_invalid_arg);
            }
            if length > 0 {
                self.bytes.extend_from_slice(std::slice::from_raw_parts(data.cast::<u8>(), length));
            }
        }
        self.ends.push(self.bytes.len());
        Ok(())
    }

    fn into_command(self) -> Command {
        let mut start = 0;
        Command::from_words(self.ends.iter().map(|&end| {
            let word = &self.bytes[start..end];
            start = end;
            word
        }))
    }
}
