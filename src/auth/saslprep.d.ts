// The saslprep package comes without types. It throws where RFC 4013 prohibits the text.
declare module "saslprep" {
  function saslprep(text: string): string;
  export = saslprep;
}
