// The door to the services for @pikku/core, which is an ES module itself. They share every class with the main door.
export * from './dist/pikku.mjs'
