/** Whether this runs in Node, and not in a browser. */
export const isNode = typeof process !== 'undefined' && Boolean(process.versions?.node);
