// Program: the bench tool. `compare` puts two servers side by side (bench/compare calls it); `wal` measures the log.
using System;

namespace Cairn.Bench;

internal static class Program
{
    private static int Main(string[] arguments)
    {
        if (arguments is ["wal"])
        {
            return WalBench.Run();
        }

        if (arguments.Length == 0 || arguments[0] != "compare")
        {
            Console.Error.WriteLine("usage: bench/compare [--pairs=N] [--scale=X] [range|put|latency|memory|watch|lease|cluster]…");
            return 2;
        }

        return new Compare(arguments.AsSpan(1)).Run();
    }
}
