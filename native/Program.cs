// Program: the entry point of the one executable.
namespace Cairn.Native;

internal static class Program
{
    private static int Main() => 0;
}
