/** EX_CONFIG of sysexits.h: starting the program again would fail again. */
export const exitCannotStart = 78;
