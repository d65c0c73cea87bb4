/** Absolute path of the compiled addon; the file exists only after `build`. @throws Error where it is built first and cannot */
export function addonPath(): string;
