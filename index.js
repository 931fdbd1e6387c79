'use strict'

// The door for CommonJS. The ES module door re-exports this one, so that both share every class.
module.exports = require('./dist/index.js')
