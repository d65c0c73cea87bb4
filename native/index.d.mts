/** Absolute path of the compiled addon; the file exists only after `build`. */
export const addonPath: string;
