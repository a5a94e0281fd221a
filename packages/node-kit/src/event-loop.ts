/** Between two looks at the delay of the event loop, ms. At Node's default, 10 ms, they are most of what a daemon does at rest. */
export const eventLoopEveryMs = 200;
