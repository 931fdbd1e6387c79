'use strict'

// The door to the HTTP API for CommonJS. It shares every class with the main door.
module.exports = require('./dist/express/index.js')
