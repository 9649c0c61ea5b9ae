"""The journal of turns: claims, holds, replies and the books, each written once."""
