// The part of libpg-query's compiled module that we call: PostgreSQL's own parser in WebAssembly. The package types only its
// wrapper, which keeps one instance for ever; an instance that has trapped is of no use any more, and we need another.

declare module "libpg-query/wasm/libpg-query.js" {
  /** An instance of the module. Pointers are numbers. */
  function instantiate(): Promise<{
    lengthBytesUTF8(text: string): number;
    stringToUTF8(text: string, pointer: number, bytesMax: number): void;
    UTF8ToString(pointer: number): string;
    getValue(pointer: number, type: "i32"): number;
    _malloc(bytes: number): number;
    _free(pointer: number): void;
    /** Pointer to {tree, stderr, error}: the parse tree as JSON, or an error. */
    _wasm_parse_query_raw(text: number): number;
    _wasm_free_parse_result(result: number): void;
  }>;
  export = instantiate;
}
