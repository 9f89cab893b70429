/** @packageDocumentation OpenCall meetings: all of the SDK, the names OpenCall's application uses, and React. */
export * from './opencall/index';
export * from './react/index';
export * from './sdk/index';
